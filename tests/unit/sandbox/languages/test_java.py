import pytest

from trainyard.sandbox.languages import java


@pytest.mark.parametrize(
    ("code", "file", "main_class"),
    [
        ("public class Code { public static void main(String[] a) {} }", "Code.java", "Code"),
        ("class A {} public class B { public static void main(String[] a) {} }", "B.java", "B"),
        ("class A { public static void main(String[] a) {} }", "Main.java", "A"),
        ("class A {} class B { static void main(String[] a) {} }", "Main.java", "B"),
        ("public record P(int x) {} class Go { public static void main (String... a) {} }", "P.java", "Go"),
        ("public interface I { static void main(String[] a) {} }", "I.java", "I"),
        ("public enum E { ONE; public static void main(String[] a) {} }", "E.java", "E"),
        ("package a.b ; public class C { public static void main(String[] a) {} }", "C.java", "a.b.C"),
        ("// public class No {\npublic class Yes { public static void main(String[] a) {} }", "Yes.java", "Yes"),
        ('/* class No { */ public class Yes { String s = "} public class No {"; }', "Yes.java", "Yes"),
        ('public class Yes { String s = """\n } public class No { "" \n"""; char c = \'{\'; }', "Yes.java", "Yes"),
        ("public class Out { public static class In { public static void main(String[] a) {} } }", "Out.java", "Out"),
        ('@Deprecated(since = "1")\npublic final class Tagged { void f() {} }', "Tagged.java", "Tagged"),
        ("import java.util.*;\npublic class $Dollar_1<T extends List<?>> { }", "$Dollar_1.java", "$Dollar_1"),
        ("", "Main.java", "Main"),
        ("}}} public class Odd {", "Main.java", "Main"),
        ("int x = ;", "Main.java", "Main"),
    ],
)
def test_a_file_of_java_is_named_and_started_by_its_classes(code: str, file: str, main_class: str) -> None:
    assert java.read(code) == java.Source(file, main_class)

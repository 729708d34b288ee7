"""One program in every language: prints its arguments and a line of standard input, complains, ends with 3."""

from typing import Final

GOOD: Final = {
    "py": """
import sys
print("|".join(sys.argv[1:]), sys.stdin.readline().strip())
print("aside", file=sys.stderr)
sys.exit(3)
""",
    "js": """
const line = require("fs").readFileSync(0, "utf8").trim();
console.log(process.argv.slice(2).join("|"), line);
console.error("aside");
process.exit(3);
""",
    "ts": """
import { readFileSync } from "fs";
interface Said { line: string }
const said: Said = { line: await Promise.resolve(readFileSync(0, "utf8").trim()) };
console.log(process.argv.slice(2).join("|"), said.line);
console.error("aside");
if (require.main === module) process.exit(3);
""",
    "go": """
package main

import ("bufio"; "fmt"; "os"; "strings")

func main() {
    said := bufio.NewScanner(os.Stdin)
    said.Scan()
    fmt.Println(strings.Join(os.Args[1:], "|"), said.Text())
    fmt.Fprintln(os.Stderr, "aside")
    os.Exit(3)
}
""",
    "java": """
import java.util.Scanner;

class Said { static String line() { return new Scanner(System.in).nextLine(); } }

public class Talk {
    public static void main(String[] args) {
        System.out.println(String.join("|", args) + " " + Said.line());
        System.err.println("aside");
        System.exit(3);
    }
}
""",
    "c": """
#include <math.h>
#include <stdio.h>
#include <string.h>
int main(int count, char **given) {
    char line[100];
    for (int n = 1; n < count; n++) printf("%s%s", n > 1 ? "|" : "", given[n]);
    fgets(line, sizeof line, stdin);
    line[strcspn(line, "\\n")] = 0;
    printf(" %s\\n", line);
    fprintf(stderr, "aside\\n");
    return (int) sqrt(9.0 * (count > 0));
}
""",
    "cpp": """
#include <iostream>
#include <string>
#include <thread>
int main(int count, char **given) {
    std::string line, words;
    std::getline(std::cin, line);
    for (int n = 1; n < count; n++) words += (n > 1 ? "|" : "") + std::string(given[n]);
    std::thread([&] { std::cout << words << " " << line << std::endl; }).join();
    std::cerr << "aside\\n";
    return 3;
}
""",
    "php": """
echo implode("|", array_slice($argv, 1)), " ", trim(fgets(STDIN)), "\\n";
fwrite(STDERR, "aside\\n");
exit(3);
""",
    "rs": """
use std::io::stdin;
fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut line = String::new();
    stdin().read_line(&mut line).unwrap();
    println!("{} {}", words.join("|"), line.trim());
    eprintln!("aside");
    std::process::exit(3);
}
""",
    "r": """
line <- readLines(file("stdin"), 1)
cat(paste(commandArgs(trailingOnly = TRUE), collapse = "|"), " ", line, "\\n", sep = "")
message("aside")
quit(status = 3)
""",
    "f90": """
program talk
  implicit none
  character(len=100) :: first, second, line
  call get_command_argument(1, first)
  call get_command_argument(2, second)
  read (*, '(A)') line
  write (*, '(A)') trim(first) // '|' // trim(second) // ' ' // trim(line)
  write (0, '(A)') 'aside'
  call exit(3)
end program
""",
    "d": """
import std.stdio, std.string;
int main(string[] given) {
    writeln(given[1 .. $].join("|"), " ", readln().strip());
    stderr.writeln("aside");
    return 3;
}
""",
    "bash": """
line=$(head -n 1)
(IFS='|'; echo "$* $line")
echo aside >&2
exit 3
""",
}

FAULTY: Final = {
    "py": ("x = = 1", "SyntaxError"),
    "js": ("let x = = 1;", "SyntaxError"),
    "ts": ("let x: number = = 1;", "ERROR"),
    "go": ("package main\nfunc main() { x := 1 }", "x declared"),
    "java": ("public class Bad { void f() { int x = ; } }", "Bad.java"),
    "c": ("int main(void) { return x; }", "undeclared"),
    "cpp": ("int main() { return x; }", "was not declared"),
    "php": ("<?php function (", "Parse error"),
    "rs": ("fn main() { x }", "cannot find value"),
    "r": ("x <- <- 1", "unexpected"),
    "f90": ("program bad\n  x = = 1\nend program", "Error"),
    "d": ("void main() { x = 1; }", "undefined identifier"),
    "bash": ("if true; then", "syntax error"),
}
"""Code that is no program, and what its compiler or interpreter says of it."""

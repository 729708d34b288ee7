import socket

from trainyard.sdk import local_server


def test_nobody_there_is_not_ready() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        assert not local_server.answers(f"http://127.0.0.1:{taken.getsockname()[1]}")

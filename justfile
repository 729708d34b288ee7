# One-line calls into make.
setup:
    make setup

bench-setup:
    make bench-setup

demo:
    make demo

test:
    make test

check:
    make check

test-cov:
    make test-cov

test-cov-gate:
    make test-cov-gate

up:
    make up

bench:
    make bench

docs:
    make docs


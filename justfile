# One-line calls into make.
setup:
    make setup

bench-setup:
    make bench-setup

demo:
    make demo

install:
    make setup

docker-up:
    make up

docker-down:
    make down

test:
    make test

test-unit:
    make test-unit

test-contract:
    make test-contract

test-integration:
    make test-integration

test-chaos:
    make test-chaos

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


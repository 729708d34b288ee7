"""Fixtures for tests of trainyard and of programs that use it; pytest loads this file by its entry point."""

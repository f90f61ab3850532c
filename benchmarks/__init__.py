"""What the figures in README.md come from. Timed here, never in the tests."""

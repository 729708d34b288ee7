"""Commands that keep the repository: budgets, coverage, generated reference, the pocket model."""

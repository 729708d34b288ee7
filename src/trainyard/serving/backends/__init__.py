"""What produces text: engines of ours, and the fake."""

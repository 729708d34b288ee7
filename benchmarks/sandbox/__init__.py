"""What isolated execution costs, beside starting Python bare, bubblewrap, Jupyter and the usual recipe for state."""

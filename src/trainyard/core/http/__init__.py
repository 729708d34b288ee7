"""The HTTP edge: who asks, how errors look, what every answer carries. Imports nothing by itself."""

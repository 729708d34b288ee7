"""What one capability needs of another, as Protocols named by noun; `app.py` plugs the implementations in."""

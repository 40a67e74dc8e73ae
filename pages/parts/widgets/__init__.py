"""Tables, charts, badges and other pieces that more than one screen draws."""

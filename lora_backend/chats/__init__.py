"""Chats with models: what is asked and answered, where that is kept, and the way to the process that answers."""

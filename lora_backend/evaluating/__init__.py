"""How good a base model and adapters of it are on rows and questions."""

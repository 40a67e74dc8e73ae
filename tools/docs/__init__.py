"""Pages of docs/ that are made from the code: each module has `pages()`, file name below docs/ → its text."""

"""What the project is made with: catalogues, generated docs. None of it ships."""

"""What only a clone of the repository needs: the course, the gallery, the bundled data."""

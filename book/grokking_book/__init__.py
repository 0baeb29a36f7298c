"""What only the site needs: what a reader plays with, tables of pages, the build, extensions of Sphinx."""

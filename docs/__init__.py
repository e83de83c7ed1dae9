"""The documentation: pages in Markdown, tutorials that run, and `docs.generate`, which makes the site of them."""

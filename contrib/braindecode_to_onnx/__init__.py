# License: BSD (3-clause)
"""What a pull request for braindecode would add; see PULL_REQUEST.md."""

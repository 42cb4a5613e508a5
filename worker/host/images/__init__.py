"""The files that guests are made from: those that lie on the host, and those that it fetches into its cache."""

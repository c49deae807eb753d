"""The interactive viewer: what there is to see of a case, served to a browser or written as one page."""

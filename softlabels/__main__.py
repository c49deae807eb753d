"""``python -m softlabels``."""

from softlabels.cli import main

main()

"""`python -m medsegagent`."""

from medsegagent.cli import main

main()

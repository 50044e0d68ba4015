"""`python -m thermoscope` is the command `thermoscope`."""

from thermoscope.cli import main

raise SystemExit(main())

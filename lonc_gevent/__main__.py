# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m lonc_gevent` is `lonc-gevent`."""

from lonc_gevent.cli import main

if __name__ == "__main__":
    main()

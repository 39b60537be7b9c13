# SPDX-License-Identifier: GPL-2.0-or-later
"""All that is only a rule: pure, given bytes and numbers.

No module in here imports gevent, sockets, clocks, random numbers, files or logs
(tests/test_rooms.py walks the imports).
"""

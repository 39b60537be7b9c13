# SPDX-License-Identifier: GPL-2.0-or-later
"""What a Python web process imports. Knows only rules and the standard library."""

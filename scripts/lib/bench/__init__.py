# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark behind scripts/bench: the daemon beside HAProxy and a bare relay."""

# SPDX-License-Identifier: GPL-2.0-or-later
"""Life cycle: build, start, signals, operator commands, hosts, drain, restart in place, janitor."""

# SPDX-License-Identifier: GPL-2.0-or-later
"""Bare Debian systems: made by debootstrap, run by systemd-nspawn, for scripts/debian-root."""

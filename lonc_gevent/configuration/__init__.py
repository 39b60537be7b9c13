# SPDX-License-Identifier: GPL-2.0-or-later
"""TOML, loncapa.conf and hosts.tab to settings, and every check of them."""

# SPDX-License-Identifier: GPL-2.0-or-later
"""Packaging of lonc-gevent; the tools' settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "([^"]+)"$', (HERE / "lonc_gevent/__init__.py").read_text(), re.MULTILINE
)
if VERSION is None:
    message = "lonc_gevent/__init__.py states no __version__"
    raise RuntimeError(message)

setup(
    name="lonc-gevent",
    version=VERSION.group(1),
    description="The local proxy daemon of the LON-CAPA network: lonc, re-implemented with gevent",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="GPL-2.0-or-later",
    python_requires=">=3.11",
    packages=find_packages(include=["lonc_gevent", "lonc_gevent.*"]),
    package_data={"lonc_gevent": ["py.typed"], "lonc_gevent.admin.page": ["*.html"]},
    entry_points={"console_scripts": ["lonc-gevent = lonc_gevent.cli:main"]},
    install_requires=[
        "gevent>=25.4,<27",  # the hub, the loop's watchers and callbacks, gevent.queue
        "greenlet>=3.2,<4",  # imported directly, where a greenlet is switched to
        "structlog>=25.1,<27",
        "pycryptodome>=3.20,<5",
        "cryptography>=45,<52",  # IDEA, in its "decrepit" module
        "msgspec>=0.19,<0.23",
        "click>=8.1,<9",
        "prometheus-client>=0.21,<1",
        "rich>=13.9,<16",  # the table of `status`
        "setproctitle>=1.3,<2",
    ],
    extras_require={
        "dev": [
            "bandit>=1.8,<2",
            "gunicorn[gevent]>=23,<28",  # real web processes for the client library
            "coverage>=7.10,<8",  # measures the processes that tests start (patch = subprocess)
            "hypothesis>=6.120,<7",
            "import-linter>=2.6,<3",
            "mypy>=1.14,<3",
            "playwright>=1.48,<2",  # drives Debian's chromium; its own browsers are not needed
            "pytest>=8.3,<10",
            "pytest-randomly>=3.16,<6",
            "pytest-xdist>=3.6,<4",  # most tests wait for processes: four at once on two cores
            "pytest-timeout>=2.3,<3",
            "pyyaml>=6,<7",
            "ruff>=0.9,<0.18",
            "setuptools>=70",
            "supervisor>=4.2,<5",
            "trustme>=1.2,<2",  # certificates for tests
            "types-gevent>=25.4",
            "types-pyyaml>=6",
            "types-setuptools>=70",
        ],
        "fuzz": ["atheris>=2.3,<4"],
        "demo": ["supervisor>=4.2,<5"],
        "web": ["gunicorn[gevent]>=23,<28"],  # the example application (scripts/quickstart --web)
    },
)

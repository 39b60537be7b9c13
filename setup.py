# SPDX-License-Identifier: GPL-2.0-or-later
"""Packaging of lonc-gevent; the tools' settings are in pyproject.toml."""

import os
import re
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
URL = "https://lonc-gevent.example"  # a placeholder: docs/RELEASING.md
LICENCE = Path("/usr/share/common-licenses/GPL-2")
"""The licence's text on Debian. It is not ours to write, so it is not in the repository."""


def text(name: str) -> str:
    """Return the text of a file beside this one."""
    return (HERE / name).read_text(encoding="utf-8")


def first(pattern: str, name: str) -> str:
    """Return the group of the first line of a file that matches a pattern; "" if none does."""
    found = re.search(pattern, text(name), re.MULTILINE)
    return found[1] if found else ""


def add_licence() -> None:
    """Copy the licence's text to COPYING, which is part of sdist and wheel. An sdist has it."""
    copying = HERE / "COPYING"
    if copying.exists():
        return
    if LICENCE.exists():
        shutil.copyfile(LICENCE, copying)
    else:
        print(f"{LICENCE} not found: built without the licence's text", file=sys.stderr)  # noqa: T201


def readme(version: str) -> str:
    """Return README.md with links that work outside of the repository."""
    relative = re.compile(r"(!?\[[^]]*\])\((?!https?:|#)([^)]+)\)")
    return relative.sub(
        lambda link: (
            f"{link[1]}({URL}/{'raw' if link[0][0] == '!' else 'blob'}/v{version}/{link[2]})"
        ),
        text("README.md"),
    )


def date(version: str) -> float:
    """Return the date of a release in CHANGELOG.md, or a wheel's earliest, 1980-01-01."""
    day = first(rf"^## \[{re.escape(version)}\] - (\S+)$", "CHANGELOG.md") or "1980-01-01"
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


class BuildWithExamples(build_py):
    """Adds config/ to the package, for `lonc-gevent example`; makes all modes the same."""

    def run(self) -> None:
        """Build the packages."""
        super().run()
        if self.editable_mode:
            return
        package = Path(self.build_lib) / "lonc_gevent"
        ignored = shutil.ignore_patterns("__pycache__", "demo-*")
        shutil.copytree(HERE / "config", package / "examples", dirs_exist_ok=True, ignore=ignored)
        for path in package.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)


VERSION = first(r'^__version__ = "([^"]+)"$', "lonc_gevent/__init__.py")
# Two builds give the same wheel, whenever and by whomever.
os.environ.setdefault("SOURCE_DATE_EPOCH", str(int(date(VERSION))))
os.umask(0o022)
add_licence()

setup(
    name="lonc-gevent",
    version=VERSION,
    description="The local proxy daemon of the LON-CAPA network: lonc, re-implemented with gevent",
    long_description=readme(VERSION),
    long_description_content_type="text/markdown",
    author="the lonc-gevent authors",
    author_email="authors@lonc-gevent.example",
    url=URL,
    project_urls={
        "Documentation": f"{URL}/blob/v{VERSION}/README.md",
        "Changelog": f"{URL}/blob/v{VERSION}/CHANGELOG.md",
        "Source": URL,
    },
    license_expression="GPL-2.0-or-later",
    license_files=["LICENSE", "COPYING"],
    keywords=["lon-capa", "lonc", "lond", "proxy", "connection pool", "gevent"],
    classifiers=[
        "Development Status :: 5 - Production/Stable",
        "Environment :: No Input/Output (Daemon)",
        "Intended Audience :: Education",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Education",
        "Topic :: Internet :: Proxy Servers",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["lonc_gevent", "lonc_gevent.*"]),
    package_data={"lonc_gevent": ["py.typed"], "lonc_gevent.admin.page": ["*.html"]},
    cmdclass={"build_py": BuildWithExamples},
    entry_points={"console_scripts": ["lonc-gevent = lonc_gevent.cli:main"]},
    # No upper bounds: they would keep security updates away. constraints.txt has what was tested.
    install_requires=[
        "gevent>=25.4",  # the hub, the loop's watchers and callbacks, gevent.queue
        "greenlet>=3.2",  # imported directly, where a greenlet is switched to
        "structlog>=25.1",
        "pycryptodome>=3.20",
        "cryptography>=45",  # IDEA, in its "decrepit" module
        "msgspec>=0.19",
        "click>=8.1",
        "prometheus-client>=0.21",
        "rich>=13.9",  # the table of `status`
        "setproctitle>=1.3",
    ],
    extras_require={
        "dev": [
            "bandit>=1.8,<2",
            "basedpyright>=1.20,<2",  # pyright, with its node: the client library's types
            "django>=5.1,<7",  # applications that use the client library
            "flask>=3,<4",
            "starlette>=0.40,<2",
            "uvicorn>=0.30,<1",
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
            "setuptools>=77",
            "supervisor>=4.2,<5",
            "trustme>=1.2,<2",  # certificates for tests
            "types-gevent>=25.4",
            "types-pyyaml>=6",
            "types-setuptools>=77",
        ],
        "fuzz": ["atheris>=2.3,<4"],
        "demo": ["supervisor>=4.2,<5"],
        "web": ["gunicorn[gevent]>=23,<28"],  # the example application (scripts/quickstart --web)
        "release": ["build>=1.2", "check-wheel-contents>=0.6", "pyroma>=4.2", "twine>=6.1"],
    },
)

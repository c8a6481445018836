"""The toy domain once more, under another name: for runs of several domains."""

from dataclasses import replace
from pathlib import Path

from sciencevae.builtin.toy import DOMAIN as TOY

DOMAIN = replace(TOY, name="twin", title="The toy's twin", folder=Path(__file__).parent)

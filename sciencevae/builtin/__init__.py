"""The domains that come with sciencevae.

In a wheel they lie in this folder. In a checkout they lie in ``domains/`` at the top level, which is put
on this package's path, so that ``sciencevae.builtin.xy`` names the same module in both. The folders that
``$SCIENCEVAE_DOMAINS`` lists, each holding folders of domains, are put there too.
"""

import os

from sciencevae.paths import checkout_folder

_folder = checkout_folder("domains")
if _folder is not None:
    __path__.append(str(_folder))
__path__.extend(os.path.abspath(p) for p in os.environ.get("SCIENCEVAE_DOMAINS", "").split(os.pathsep) if p)

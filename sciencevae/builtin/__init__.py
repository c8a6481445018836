"""The domains that come with sciencevae.

In a wheel they lie in this folder. In a checkout they lie in ``domains/`` at the top level, which is put
on this package's path, so that ``sciencevae.builtin.xy`` names the same module in both.
"""

from sciencevae.paths import checkout_folder

_folder = checkout_folder("domains")
if _folder is not None:
    __path__.append(str(_folder))

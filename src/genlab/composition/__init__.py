"""Composition: composed configs become checked, built objects, and errors on the way become one clear line.

Besides the entry files and ``launching``, these are the only modules that know Hydra: everything below them works
with plain values and objects.
"""

from genlab.composition import resolvers as resolvers  # registers the ${genlab...} resolvers that configs use

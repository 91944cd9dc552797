"""Composition: composed configs become checked, built objects, and errors on the way become one clear line."""

# Besides the entry files and launching, only these modules know Hydra; those below work with plain values and objects.

from genlab.composition import resolvers as resolvers  # registers the ${genlab...} resolvers that configs use

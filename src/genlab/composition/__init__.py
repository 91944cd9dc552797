"""From composed config to built objects, and from what can go wrong on the way to one clear line.

The only modules that know Hydra beside the entry files: below them everything is plain values and objects.
"""

from genlab.composition import resolvers as resolvers  # which configs ask for

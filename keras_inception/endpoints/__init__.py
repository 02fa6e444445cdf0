"""Where heads could sit: what a probe on each endpoint answers, and what it costs.

features   every endpoint's features, pooled to vectors, in one forward pass
probes     linear probes in closed form, from sums that do not grow with the data
costs      milliseconds to reach an endpoint, and the gradient that a head sends
ranking    `rank_endpoints`: all of it for a model and its data
report     recommendations, the table and the picture
"""

from keras_inception.endpoints.ranking import EndpointRow, rank_endpoints

__all__ = ["EndpointRow", "rank_endpoints"]

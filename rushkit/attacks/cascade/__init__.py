"""The cascade: rounds of climbs whose cost about doubles; an image leaves as soon as its outcome is settled."""

"""Where frames come from: images, folders, videos, cameras, network streams and standard input.

>>> from salgan_edge.sources.opening import open_source
>>> with open_source("street.mp4") as source:  # doctest: +SKIP
...     for frame in source:
...         print(frame.index, frame.time, frame.image.shape)
"""

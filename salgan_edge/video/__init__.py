"""Video and live frames: sources, the pipeline that predicts them, steady maps, recordings and a window.

>>> from salgan_edge.video.sources import open_source
>>> with open_source("street.mp4") as source:  # doctest: +SKIP
...     for frame in source:
...         print(frame.index, frame.time, frame.image.shape)

How a frame goes: `sources.open_source` opens it by `capture`, `files` or `pipe`; a thread of `sources.LiveSource`
reads it and a `frames.Handover` passes it on; `pipeline.Stream` predicts it; `output.LiveOutput`
writes the result, and `window.Viewer` shows it.
"""

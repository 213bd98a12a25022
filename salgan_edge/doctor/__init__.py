"""Can this machine run the product, on which devices, and what fixes what is wrong?

Whatever loads foreign native code (numpy, OpenCV, onnxruntime, drivers, cameras, windows) runs in a
subprocess with a time limit, so that a crash or a hang is a finding and not the end of the report.
"""

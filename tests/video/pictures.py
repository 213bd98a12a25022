"""What the tests of videos and streams share: numbered pictures, videos of them, and a camera in the network."""

from __future__ import annotations

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count as count_up

import cv2
import numpy as np
from PIL import Image

from salgan_edge.video.files import VideoFile

LONG = 30.0  # seconds; a wait that takes so long has failed
WIDTH, HEIGHT = 96, 64


def drawn(number: int) -> np.ndarray:
    """RGB (64, 96, 3): twelve stripes, the bits of a number in green, under a red and above a blue band."""
    bits = (number >> np.arange(12)) & 1
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 1] = np.repeat(bits * 255, 8)
    image[:16] = (230, 20, 20)
    image[-16:] = (20, 20, 230)
    return image


def number_of(image: np.ndarray) -> int:
    """What was `drawn`; the bands must be where they were and of their colours."""
    assert image.dtype == np.uint8
    assert image.shape == (HEIGHT, WIDTH, 3)
    top, bottom = image[6].mean(axis=0), image[-6].mean(axis=0)
    assert top[0] > top[2] + 50
    assert bottom[2] > bottom[0] + 50
    green = image[28:36, :, 1].reshape(8, 12, 8)[:, :, 2:6].mean(axis=(0, 2))
    return int(((green > 128) << np.arange(12)).sum())


def jpeg(number: int, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(drawn(number)).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(drawn(number)).save(file, "PNG")
    return file.getvalue()


def write_video(path, images=40, fps=20.0, code="MJPG"):
    """A video of RGB images of one size, or of so many that are `drawn`; its path."""
    images = [drawn(number) for number in range(images)] if isinstance(images, int) else images
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def frames_of(path) -> list[np.ndarray]:
    with VideoFile(path) as frames:
        return [frame.image for frame in frames]


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def in_thread(function, *arguments) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def have_ended(kind: str) -> bool:
    """Wait for the threads whose names begin so; whether all have ended."""
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(kind)]
    for thread in threads:
        thread.join(LONG)
    return not any(thread.is_alive() for thread in threads)


class Server:
    """MJPEG over HTTP as cheap cameras send it; numbers go on when it is started again."""

    def __init__(self) -> None:
        self.port = self.number = 0
        self.asked: list[str] = []
        self.start()

    def start(self) -> None:
        server, self._stop = self, threading.Event()
        stop = self._stop

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                page = self.path.startswith("/page")
                kind = "text/html" if page else "multipart/x-mixed-replace; boundary=frame"
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.end_headers()
                if page:
                    self.wfile.write(b"<html><body>no camera</body></html>")
                    return
                try:
                    for server.number in count_up(server.number):  # noqa: B020 - goes on where it was
                        if stop.wait(0.02):
                            break
                        data = jpeg(server.number)
                        head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(
                            data
                        )
                        self.wfile.write(head + data + b"\r\n")
                except OSError:
                    pass
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        in_thread(self._server.serve_forever, 0.02)

    def stop(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            self._server.shutdown()
            self._server.server_close()

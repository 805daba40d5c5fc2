"""Models and image sets that lie in S3: what a source names, and a bounded local cache of what was downloaded.

The rules:

1. The server is asked at every build what lies there; only an object that changed is downloaded.
2. Bytes from the cache are never trusted before they were hashed.
3. A build reads links of its own in a folder that it holds by a lock of the operating system. So the cache may lose
   any file at any time, and what a dead build left is known by its free lock.
"""

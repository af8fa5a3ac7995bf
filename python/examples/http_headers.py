"""Get HTTP headers: the third example of Python's asyncio Streams, on the native ones, over HTTP and HTTPS.

    python http_headers.py https://www.python.org/
"""

import asyncio
import sys
import urllib.parse

import millstream


async def print_http_headers(url):
    url = urllib.parse.urlsplit(url)
    if url.scheme == "https":
        reader, writer = await millstream.open_connection(url.hostname, url.port or 443, ssl=True)
    else:
        reader, writer = await millstream.open_connection(url.hostname, url.port or 80)

    query = f"HEAD {url.path or '/'} HTTP/1.0\r\nHost: {url.hostname}\r\n\r\n"
    writer.write(query.encode("latin-1"))

    headers = []
    async for line in reader:
        line = line.decode("latin1").rstrip()
        if not line:
            break
        print(f"HTTP header> {line}")
        headers.append(line)

    # Ignore the body, close the socket
    writer.close()
    await writer.wait_closed()
    return headers


if __name__ == "__main__":
    asyncio.run(print_http_headers(sys.argv[1]))

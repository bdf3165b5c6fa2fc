"""Origins that fail on demand, all in one process: HTTP on one port of many loopback addresses. Lines on standard input say what an address does from
now on: "ADDRESS healthy|refused|status|silent|reset|body". Each line is answered with the monotonic time at which it was done. When the process itself
did not run for a quarter of a second, it says so on standard error: "stood TIME SECONDS".

    origins.py PORT ADDRESS…
"""
import asyncio, socket, struct, sys, time

HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nready\n"
STATUS = b"HTTP/1.1 503 Busy\r\ncontent-length: 6\r\nconnection: close\r\n\r\nready\n"
BODY = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nnope\n"
doing, servers = {}, {}


def serve_at(address):
    async def serve(reader, writer):
        try:
            deed = doing[address]
            if deed == "reset":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await reader.read(1)
                return
            await reader.readuntil(b"\r\n\r\n")
            deed = doing[address]
            if deed == "silent":
                await reader.read()
                return
            writer.write({"status": STATUS, "body": BODY}.get(deed, HEALTHY))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
    return serve


async def obey(address, deed, port):
    doing[address] = deed
    if deed == "refused":
        if address in servers:
            # Without waiting: those that are being served go on.
            servers.pop(address).close()
    elif address not in servers:
        servers[address] = await asyncio.start_server(serve_at(address), address, port, backlog=64)
    return time.monotonic()


async def watch():
    last = time.monotonic()
    while True:
        await asyncio.sleep(0.05)
        now = time.monotonic()
        if now - last > 0.3:
            print(f"stood {last} {now - last}", file=sys.stderr, flush=True)
        last = now


async def main():
    port, addresses = int(sys.argv[1]), sys.argv[2:]
    for address in addresses:
        await obey(address, "healthy", port)
    lines = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    watching = asyncio.create_task(watch())
    print("ready", flush=True)
    while line := (await lines.readline()).decode():
        print(await obey(*line.split(), port), flush=True)
    watching.cancel()


asyncio.run(main())

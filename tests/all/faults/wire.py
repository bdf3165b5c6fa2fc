"""A long cable: carries Ethernet frames between two interfaces, in both directions, and holds IPv4 packets from or to an address for as long as a line
on standard input says ("ADDRESS MILLISECONDS"). For kernels without netem. Ends with its input.

    wire.py INTERFACE INTERFACE
"""
import heapq, os, select, socket, sys, time

SOL_PACKET, PACKET_VNET_HDR, PACKET_OUTGOING, ETH_P_ALL = 263, 15, 4, 3
# What the kernel says of a frame's unfinished checksum, before each frame; the next kernel wants to know.
VNET_HEADER = 10


def end(interface):
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    packets.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    packets.bind((interface, 0))
    return packets


near, far = end(sys.argv[1]), end(sys.argv[2])
delays, under_way, count = {}, [], 0
print("carries", flush=True)
while True:
    wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
    for readable in select.select([near, far, sys.stdin], [], [], wait)[0]:
        if readable is sys.stdin:
            # Whole lines come in one write.
            lines = os.read(0, 4096).decode()
            if not lines:
                sys.exit()
            for line in lines.splitlines():
                address, milliseconds = line.split()
                delays[socket.inet_aton(address)] = float(milliseconds) / 1000
            print("told", flush=True)
            continue
        frame, (_, _, kind, *_) = readable.recvfrom(1 << 17)
        if kind == PACKET_OUTGOING:
            continue
        packet = frame[VNET_HEADER + 14:]
        is_ipv4 = frame[VNET_HEADER + 12:VNET_HEADER + 14] == b"\x08\x00"
        delay = max(delays.get(packet[12:16], 0.0), delays.get(packet[16:20], 0.0)) if is_ipv4 else 0.0
        count += 1
        heapq.heappush(under_way, (time.monotonic() + delay, count, far if readable is near else near, frame))
    while under_way and under_way[0][0] <= time.monotonic():
        _, _, to, frame = heapq.heappop(under_way)
        try:
            to.send(frame)
        except OSError:
            # The interface is down: a cable that is cut carries nothing.
            pass

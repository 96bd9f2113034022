/* A sender that a rate can be measured with, and its receiver. Compiled by bench/trace_overhead.py.
 *
 *   blast udp ADDRESS PORT      then lines "MILLISECONDS RATE" on stdin: datagrams of 64 bytes (with their headers) for
 *                               so long, RATE a second (0: as fast as it goes); answers "SENT WALL_NS CPU_NS"
 *   blast tcp ADDRESS PORT      the same: one new connection, BYTES instead of SENT; the rate is not used
 *   blast sink PORT             takes both in, without looking; says "ready", ends with stdin
 *
 * The first four bytes of a datagram are its number, from 0 on in each line.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 32, PAYLOAD = 64 - 28, CHUNK = 1 << 16, WAITING = 256 };

static long now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static struct sockaddr_in address(const char *host, const char *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };

	if (inet_pton(AF_INET, host, &a.sin_addr) != 1)
		exit(2);
	return a;
}

static long datagrams(int fd, long ms, long rate)
{
	static char data[BATCH][PAYLOAD];
	struct iovec vec[BATCH];
	struct mmsghdr all[BATCH];
	long start = now(CLOCK_MONOTONIC), end = start + ms * 1000000, sent = 0;
	int batch = rate && rate < 100000 ? 1 : BATCH;

	memset(all, 0, sizeof(all));
	for (int i = 0; i < BATCH; i++) {
		vec[i] = (struct iovec){ data[i], PAYLOAD };
		all[i].msg_hdr.msg_iov = &vec[i];
		all[i].msg_hdr.msg_iovlen = 1;
	}
	for (long t; (t = now(CLOCK_MONOTONIC)) < end;) {
		int n;

		if (rate && sent > (t - start) / 1000 * rate / 1000000) {
			struct timespec nap = { 0, 50000 };

			nanosleep(&nap, NULL);
			continue;
		}
		for (int i = 0; i < batch; i++)
			*(unsigned *)data[i] = htonl(sent + i);
		n = sendmmsg(fd, all, batch, 0);
		if (n > 0)
			sent += n;
	}
	return sent;
}

static long stream(struct sockaddr_in *to, long ms)
{
	static char data[CHUNK];
	long end = now(CLOCK_MONOTONIC) + ms * 1000000, sent = 0;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (void *)to, sizeof(*to)))
		exit(1);
	while (now(CLOCK_MONOTONIC) < end) {
		long n = send(fd, data, sizeof(data), 0);

		if (n <= 0)
			exit(1);
		sent += n;
	}
	shutdown(fd, SHUT_WR);
	while (recv(fd, data, 1, 0) > 0) /* the other end closes when it has all */
		;
	close(fd);
	return sent;
}

static int sink(const char *port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
	static char data[CHUNK];
	struct mmsghdr all[BATCH];
	struct iovec vec = { data, sizeof(data) };
	struct pollfd of[WAITING] = { { 0, POLLIN, 0 }, { socket(AF_INET, SOCK_DGRAM, 0), POLLIN, 0 },
				      { socket(AF_INET, SOCK_STREAM, 0), POLLIN, 0 } };
	int count = 3, one = 1, room = 8 << 20;

	memset(all, 0, sizeof(all));
	for (int i = 0; i < BATCH; i++) {
		all[i].msg_hdr.msg_iov = &vec;
		all[i].msg_hdr.msg_iovlen = 1;
	}
	setsockopt(of[1].fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	setsockopt(of[2].fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(of[1].fd, (void *)&any, sizeof(any)) || bind(of[2].fd, (void *)&any, sizeof(any)) || listen(of[2].fd, 16))
		return 1;
	puts("ready");
	fflush(stdout);
	while (poll(of, count, -1) > 0) {
		if (of[0].revents)
			return 0;
		if (of[1].revents)
			recvmmsg(of[1].fd, all, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
		if (of[2].revents && count < WAITING)
			of[count++] = (struct pollfd){ accept(of[2].fd, NULL, NULL), POLLIN, 0 };
		for (int i = 3; i < count; i++)
			if (of[i].revents && recv(of[i].fd, data, sizeof(data), 0) <= 0) {
				close(of[i].fd);
				of[i--] = of[--count];
			}
	}
	return 1;
}

int main(int count, char **words)
{
	struct sockaddr_in to;
	long ms, rate;
	int fd = -1;

	if (count == 3 && !strcmp(words[1], "sink"))
		return sink(words[2]);
	if (count != 4)
		return 2;
	to = address(words[2], words[3]);
	if (!strcmp(words[1], "udp")) {
		fd = socket(AF_INET, SOCK_DGRAM, 0);
		if (connect(fd, (void *)&to, sizeof(to)))
			return 1;
	}
	while (scanf("%ld %ld", &ms, &rate) == 2) {
		long wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_THREAD_CPUTIME_ID);
		long sent = fd < 0 ? stream(&to, ms) : datagrams(fd, ms, rate);

		printf("%ld %ld %ld\n", sent, now(CLOCK_MONOTONIC) - wall, now(CLOCK_THREAD_CPUTIME_ID) - cpu);
		fflush(stdout);
	}
	return 0;
}

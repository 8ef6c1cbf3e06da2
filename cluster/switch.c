/* cluster_switch DELAY_US LOSS_PERCENT PORT...: an Ethernet switch in user space whose frames take longer or get lost.
 *
 * It stands in for the kernel's netem, which many kernels lack. Each PORT is an interface with one host behind it. A
 * frame read from a port waits for DELAY_US and leaves by the port whose host has its destination address, or by all
 * others while that is unknown. Frames keep the kernel's offload header, so TCP's segments of up to 64 KiB pass whole
 * and without checksums, which makes the cost per byte small; rates are the business of the ports' queueing
 * disciplines. Memory: the frames in flight, at most QUEUE_BYTES_MAX a port; beyond that they are dropped, as in any
 * switch. Prints "ready" when all ports are open; ends with counts on SIGTERM. */
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

enum {
    N_PORTS_MAX = 128,
    OFFLOAD_BYTES = 10,                           /* struct virtio_net_hdr, before each frame */
    FRAME_BYTES_MAX = OFFLOAD_BYTES + 65536 + 64, /* a segment of 64 KiB with its headers */
    FRAMES_PER_TURN = 64,                         /* read from one port before the others get their turn */
    QUEUE_BYTES_MAX = 64 << 20,
    DELAY_US_MAX = 10000000,
};
static const int64_t ns_per_s = 1000000000;

typedef struct frame {
    struct frame *next;
    int64_t due; /* when it leaves, ns */
    size_t bytes;
    unsigned char data[];
} frame;

typedef struct {
    int fd;
    frame *head, **tail; /* every frame waits equally long, so the queue is in order of due */
    size_t queued_bytes;
    bool learned;
    unsigned char address[ETH_ALEN]; /* of the host behind it */
} port;

typedef struct {
    port ports[N_PORTS_MAX];
    int n_ports;
    int64_t delay; /* ns */
    double loss;   /* probability */
    unsigned short random_state[3];
    uint64_t forwarded, lost, dropped;
    unsigned char buffer[FRAME_BYTES_MAX];
} network;

static volatile sig_atomic_t stopping;

static void on_signal(int number) {
    (void)number;
    stopping = 1;
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * ns_per_s + t.tv_nsec;
}

static void set_option(int fd, int level, int option, const void *value, socklen_t bytes, const char *interface) {
    if (!setsockopt(fd, level, option, value, bytes)) return;
    fprintf(stderr, "cluster_switch: %s: setsockopt %d: %s\n", interface, option, strerror(errno));
    exit(1);
}

static void port_open(port *p, const char *interface) {
    const int on = 1, buffer_bytes = 16 << 20;
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(interface)};
    struct packet_mreq promiscuous = {.mr_ifindex = address.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
    *p = (port){.fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0), .tail = &p->head};
    if (p->fd < 0 || !address.sll_ifindex) {
        fprintf(stderr, "cluster_switch: %s: %s\n", interface, strerror(errno));
        exit(1);
    }
    set_option(p->fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on, interface);
    set_option(p->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on, interface);
    set_option(p->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous, interface);
    set_option(p->fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof buffer_bytes, interface);
    set_option(p->fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer_bytes, sizeof buffer_bytes, interface);
    if (bind(p->fd, (struct sockaddr *)&address, sizeof address)) {
        fprintf(stderr, "cluster_switch: %s: bind: %s\n", interface, strerror(errno));
        exit(1);
    }
}

static void port_queue(network *net, port *to, size_t bytes, int64_t due) {
    frame *f = to->queued_bytes + bytes <= QUEUE_BYTES_MAX ? malloc(sizeof *f + bytes) : NULL;
    if (!f) {
        net->dropped++;
        return;
    }
    *f = (frame){.due = due, .bytes = bytes};
    memcpy(f->data, net->buffer, bytes);
    *to->tail = f;
    to->tail = &f->next;
    to->queued_bytes += bytes;
}

/* Sends what is due. A link that is down or full loses the frame. */
static void port_send_due(network *net, port *p, int64_t t) {
    while (p->head && p->head->due <= t) {
        frame *f = p->head;
        if (send(p->fd, f->data, f->bytes, 0) < 0)
            net->dropped++;
        else
            net->forwarded++;
        p->head = f->next;
        if (!p->head) p->tail = &p->head;
        p->queued_bytes -= f->bytes;
        free(f);
    }
}

static port *find_destination(network *net, const unsigned char *address) {
    for (int i = 0; i < net->n_ports; i++) {
        port *p = &net->ports[i];
        if (p->learned && !memcmp(p->address, address, ETH_ALEN)) return p;
    }
    return NULL;
}

/* Queues the frame in the buffer, which came from this port. */
static void forward(network *net, port *from, size_t bytes) {
    const struct ether_header *header = (const struct ether_header *)(net->buffer + OFFLOAD_BYTES);
    memcpy(from->address, header->ether_shost, ETH_ALEN);
    from->learned = true;
    if (erand48(net->random_state) < net->loss) {
        net->lost++;
        return;
    }
    port *to = find_destination(net, header->ether_dhost);
    int64_t due = now() + net->delay;
    if (to && to != from) port_queue(net, to, bytes, due);
    for (int i = 0; !to && i < net->n_ports; i++)
        if (&net->ports[i] != from) port_queue(net, &net->ports[i], bytes, due);
}

static void port_receive(network *net, port *p) {
    for (int n = 0; n < FRAMES_PER_TURN; n++) {
        ssize_t bytes = recv(p->fd, net->buffer, sizeof net->buffer, MSG_TRUNC);
        if (bytes < 0) return;
        if (bytes < OFFLOAD_BYTES + ETH_HLEN || bytes > (ssize_t)sizeof net->buffer)
            net->dropped++;
        else
            forward(net, p, (size_t)bytes);
    }
}

/* Until the next frame is due; a second when none waits. */
static struct timespec time_to_wait(const network *net) {
    int64_t t = now(), due = t + ns_per_s;
    for (int i = 0; i < net->n_ports; i++)
        if (net->ports[i].head && net->ports[i].head->due < due) due = net->ports[i].head->due;
    int64_t wait = due > t ? due - t : 0;
    return (struct timespec){.tv_sec = wait / ns_per_s, .tv_nsec = wait % ns_per_s};
}

static void serve(network *net, const sigset_t *unblocked) {
    struct pollfd polled[N_PORTS_MAX];
    for (int i = 0; i < net->n_ports; i++) polled[i] = (struct pollfd){.fd = net->ports[i].fd, .events = POLLIN};
    while (!stopping) {
        struct timespec wait = time_to_wait(net);
        int n_ready = ppoll(polled, (nfds_t)net->n_ports, &wait, unblocked);
        for (int i = 0; n_ready > 0 && i < net->n_ports; i++)
            if (polled[i].revents) port_receive(net, &net->ports[i]);
        int64_t t = now();
        for (int i = 0; i < net->n_ports; i++) port_send_due(net, &net->ports[i], t);
    }
}

/* A late switch would be a slower network than asked for: ahead of the hosts' programs, and woken to the microsecond.
 */
static void take_precedence(void) {
    struct sched_param priority = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_RR, &priority)) perror("cluster_switch: sched_setscheduler (going on)");
    prctl(PR_SET_TIMERSLACK, 1UL);
}

/* SIGTERM is let in only while waiting, so none is missed. */
static sigset_t hold_signals(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t term, before;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, &before);
    sigaction(SIGTERM, &action, NULL);
    return before;
}

static double number(const char *text, double max, const char *what) {
    char *end;
    double x = strtod(text, &end);
    if (end != text && !*end && x >= 0 && x <= max) return x;
    fprintf(stderr, "cluster_switch: bad %s '%s'\n", what, text);
    exit(2);
}

int main(int argc, char **argv) {
    static network net = {.random_state = {0x9e37, 0x79b9, 0x7f4a}}; /* the same losses in every run */
    if (argc < 5 || argc - 3 > N_PORTS_MAX) {
        fprintf(stderr, "usage: cluster_switch DELAY_US LOSS_PERCENT PORT PORT... (at most %d)\n", N_PORTS_MAX);
        return 2;
    }
    net.delay = (int64_t)(number(argv[1], DELAY_US_MAX, "delay") * 1e3);
    net.loss = number(argv[2], 100, "loss") / 100;
    net.n_ports = argc - 3;
    sigset_t unblocked = hold_signals();
    for (int i = 0; i < net.n_ports; i++) port_open(&net.ports[i], argv[3 + i]);
    take_precedence();
    puts("ready");
    fflush(stdout);
    serve(&net, &unblocked);
    fprintf(stderr, "forwarded %llu, lost %llu, dropped %llu\n", (unsigned long long)net.forwarded,
            (unsigned long long)net.lost, (unsigned long long)net.dropped);
    return 0;
}

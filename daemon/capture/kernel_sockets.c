/* SPDX-License-Identifier: MIT */

/*
 * In sock_diag a socket that the kernel opened for itself looks like any other: owner 0 and the inode of a file that
 * nobody has open. So does one that root's processes have where no walk over /proc sees it: in flight over a Unix
 * socket, or registered with io_uring. Two things tell them apart.
 *
 * (1) A tunnel device that is up has its port, on all addresses and interfaces. Its socket does not share (no
 * SO_REUSEADDR), so while it is there no other socket can be bound to that port on all addresses and interfaces: a row
 * that is so bound is the device's. What is bound to one interface may be beside it (where the tunnel is in a VRF), and is
 * left out.
 *
 * (2) A socket belongs to the cgroup of the thread that made it. Where only kernel threads live in the root cgroup, as
 * systemd has it, a socket of the root cgroup was made by one: NFS connects so. That the cgroup which we see as the
 * root is the root, and not that of a container, shows in kthreadd: it cannot leave it. A child of kthreadd need not be
 * a kernel thread (modprobe and core dump handlers are its children, with a program of their own): the flag tells. What
 * the kernel makes on a process's behalf (a tunnel, a lock manager) has that process's cgroup, and is not told so.
 */

#include "daemon/capture/kernel_sockets.h"

#include <limits.h>
#include <netinet/tcp.h>
#include <stdio.h>

#include "common/log.h"
#include "daemon/capture/proc_parse.h"
#include "daemon/capture/proc_read.h"
#include "daemon/capture/tunnels.h"

#define KTHREADD_PID 2
#define PF_KTHREAD   0x00200000u /* <linux/sched.h>, not exported; proc_pid_stat(5), field 9 */

struct kernel_sockets {
	int proc_fd; /* not owned */
	/* since the last renewal */
	bool tunnels_known, root_known;
	struct tunnel_ports tunnels; /* empty where they could not be listed */
	bool root_is_kernels;        /* only kernel threads live in the root cgroup */
	bool failed;                 /* tunnels could not be listed: said once */
};

struct kernel_sockets *kernel_sockets_new(int proc_fd)
{
	struct kernel_sockets *k = calloc(1, sizeof(*k));

	if (k)
		k->proc_fd = proc_fd;
	return k;
}

struct kernel_sockets *kernel_sockets_free(struct kernel_sockets *k)
{
	free(k);
	return NULL;
}

void kernel_sockets_renew(struct kernel_sockets *k)
{
	k->tunnels_known = k->root_known = false;
}

static const struct tunnel_ports *tunnels_of(struct kernel_sockets *k)
{
	int r;

	if (k->tunnels_known)
		return &k->tunnels;
	k->tunnels_known = true;
	r = tunnels_read(&k->tunnels);
	if (r == 0)
		return &k->tunnels;
	memset(&k->tunnels, 0, sizeof(k->tunnels));
	if (!k->failed)
		log_warning(
			"cannot list tunnel devices: %s; the kernel's own sockets count as nobody's",
			strerror(-r));
	k->failed = true;
	return &k->tunnels;
}

static bool is_tunnel(struct kernel_sockets *k, const struct socket_row *row)
{
	if (row->protocol != PROTOCOL_UDP || row->state != TCP_CLOSE || row->interface != 0 ||
		row->remote.address.family != FAMILY_NONE || !address_is_any(&row->local.address))
		return false;
	return tunnel_ports_contain(
		tunnels_of(k), row->local.address.family == FAMILY_IPV6, row->local.port);
}

enum found {
	FOUND_GONE,
	FOUND_KERNEL_THREAD,
	FOUND_PROCESS,
};

static enum found look_at(const struct kernel_sockets *k, int32_t pid)
{
	char name[32], text[1024];
	struct proc_stat stat;
	ssize_t n;

	/* one outside our pid namespace, of which nothing is known */
	if (pid == 0)
		return FOUND_PROCESS;
	(void)snprintf(name, sizeof(name), "%d/stat", pid);
	n = proc_read_file(k->proc_fd, name, text, sizeof(text));
	if (n == -ENOENT || n == -ESRCH)
		return FOUND_GONE;
	if (n < 0 || proc_parse_stat(text, (size_t)n, &stat) < 0)
		return FOUND_PROCESS;
	return stat.flags & PF_KTHREAD ? FOUND_KERNEL_THREAD : FOUND_PROCESS;
}

static void file_close_p(FILE **f)
{
	if (*f)
		(void)fclose(*f);
}

/* Do only kernel threads live in the root cgroup, and is it the root? */
static bool root_is_kernels(const struct kernel_sockets *k)
{
	_cleanup_(file_close_p) FILE *f = NULL;
	_cleanup_(free_p) char *mount = NULL;
	bool kthreadd = false;
	char name[PATH_MAX];
	int32_t pid;
	int items;

	if (proc_find_cgroup2(k->proc_fd, &mount) < 0 ||
		snprintf(name, sizeof(name), "%s/cgroup.procs", mount) >= PATH_MAX)
		return false;
	f = fopen(name, "re");
	if (!f)
		return false;
	while ((items = fscanf(f, "%d", &pid)) == 1) {
		enum found found = look_at(k, pid);

		if (found == FOUND_PROCESS)
			return false;
		if (found == FOUND_KERNEL_THREAD && pid == KTHREADD_PID)
			kthreadd = true;
	}
	return kthreadd && items == EOF && !ferror(f);
}

static bool is_kernel_threads(struct kernel_sockets *k, const char *cgroup)
{
	if (!cgroup || !streq(cgroup, "/"))
		return false;
	if (!k->root_known)
		k->root_is_kernels = root_is_kernels(k);
	k->root_known = true;
	return k->root_is_kernels;
}

bool kernel_sockets_is_one(
	struct kernel_sockets *k, const struct socket_row *row, const char *cgroup)
{
	/* without an inode the owner is not told, and it is an orphan's remainder or not yet accepted */
	if (row->inode == 0 || row->uid != 0)
		return false;
	return is_tunnel(k, row) || is_kernel_threads(k, cgroup);
}

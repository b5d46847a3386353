/* SPDX-License-Identifier: MIT */

#include "daemon/passed.h"

#include <systemd/sd-daemon.h>

int passed_take(struct passed *ret)
{
	char **names = NULL;
	int count = sd_listen_fds_with_names(1, &names);
	struct passed_fd *fds;

	if (count <= 0)
		return count;
	fds = calloc((size_t)count, sizeof(*fds));
	for (int i = 0; i < count; i++) {
		if (fds)
			fds[i] = (struct passed_fd){
				.fd = SD_LISTEN_FDS_START + i, .name = TAKE_PTR(names[i])};
		else
			free(names[i]);
	}
	free(names);
	if (!fds)
		return -ENOMEM;
	*ret = (struct passed){.fds = fds, .count = (size_t)count};
	return 0;
}

int passed_find(struct passed *p, const char *name)
{
	for (size_t i = 0; i < p->count; i++)
		if (p->fds[i].fd >= 0 && streq(p->fds[i].name, name))
			return TAKE_FD(p->fds[i].fd);
	return -1;
}

void passed_done(struct passed *p)
{
	for (size_t i = 0; i < p->count; i++) {
		close_p(&p->fds[i].fd);
		free(p->fds[i].name);
	}
	free(TAKE_PTR(p->fds));
	p->count = 0;
}

bool passed_let_go(struct passed *p, int fd)
{
	for (size_t i = 0; i < p->count; i++) {
		if (p->fds[i].fd != fd)
			continue;
		(void)TAKE_FD(p->fds[i].fd);
		return true;
	}
	return false;
}

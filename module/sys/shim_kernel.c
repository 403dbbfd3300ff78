// SPDX-License-Identifier: GPL-2.0-only
/* The C end of the fence: memory, files, contexts. */

#include <linux/anon_inodes.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/user.h>
#include <linux/skbuff.h>
#include <linux/vmalloc.h>

#include "shim.h"

int nettap_pin_charge(struct nettap_pin *pin, u64 bytes)
{
	struct mmpin mmp = {};
	int err = mm_account_pinned_pages(&mmp, bytes);

	pin->user = mmp.user;
	pin->pages = mmp.num_pg;
	return err;
}

void nettap_pin_release(struct nettap_pin *pin)
{
	struct mmpin mmp = { .user = pin->user, .num_pg = pin->pages };

	mm_unaccount_pinned_pages(&mmp);
}

/* What the machine could give without hardship; whoever takes more has the others killed for it. */
u64 nettap_pages_available(void)
{
	return max(si_mem_available(), 0L);
}

/* A region is many pages: where they are not to be had it fails, as ring_buffer.c's buffers do. */
struct page *nettap_page_new(void)
{
	return alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_RETRY_MAYFAIL | __GFP_NOWARN);
}

void nettap_page_put(struct page *page)
{
	put_page(page);
}

void *nettap_vmap(struct page **pages, unsigned int count)
{
	return vmap(pages, count, VM_MAP, PAGE_KERNEL);
}

void nettap_vunmap(void *address)
{
	vunmap(address);
}

u64 nettap_vma_offset(const struct vm_area_struct *vma)
{
	return (u64)vma->vm_pgoff << PAGE_SHIFT;
}

u64 nettap_vma_length(const struct vm_area_struct *vma)
{
	return vma->vm_end - vma->vm_start;
}

bool nettap_vma_is_shared(const struct vm_area_struct *vma)
{
	return vma->vm_flags & VM_SHARED;
}

bool nettap_vma_is_writable(const struct vm_area_struct *vma)
{
	return vma->vm_flags & VM_WRITE;
}

int nettap_vma_map(struct vm_area_struct *vma, struct page **pages, u64 count, bool writable)
{
	vm_flags_mod(vma, VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY,
		     (writable ? 0 : VM_MAYWRITE) | VM_MAYEXEC);
	return vm_map_pages_zero(vma, pages, count);
}

struct file *nettap_anon_file(const char *name, const struct file_operations *fops, void *private)
{
	return anon_inode_getfile(name, fops, private, O_RDWR | O_CLOEXEC);
}

void *nettap_file_private(struct file *file, const struct file_operations *fops)
{
	return file->f_op == fops ? file->private_data : NULL;
}

void nettap_fput(struct file *file)
{
	fput(file);
}

struct file *nettap_fget(int fd)
{
	return fget(fd);
}

void nettap_full_barrier(void)
{
	smp_mb();
}

void nettap_bh_disable(void)
{
	local_bh_disable();
}

void nettap_bh_enable(void)
{
	local_bh_enable();
}

void nettap_cond_resched(void)
{
	cond_resched();
}

u32 nettap_current_tgid(void)
{
	return task_tgid_nr(current);
}

/* The caller's process, whose numbers stay known when it has ended. */
struct pid *nettap_current_process(void)
{
	return get_pid(task_tgid(current));
}

u32 nettap_process_seen(struct pid *pid)
{
	return pid_vnr(pid);
}

void nettap_process_put(struct pid *pid)
{
	put_pid(pid);
}

bool nettap_current_exits(void)
{
	return current->flags & PF_EXITING;
}

void nettap_current_comm(char *to)
{
	strscpy(to, current->comm, TASK_COMM_LEN);
}

void nettap_current_ids(u32 *user, u32 *group)
{
	*user = __kuid_val(current_euid());
	*group = __kgid_val(current_egid());
}

bool nettap_current_in_group(u32 group)
{
	return in_egroup_p(KGIDT_INIT(group));
}

package store

// keychainName is what people know it by.
const keychainName = "the Windows Credential Manager"

// maxItem is CRED_MAX_CREDENTIAL_BLOB_SIZE (wincred.h).
func maxItem(string) int { return 2560 }

func explain(error) (why string, reason Reason) { return "", OtherReason }

// abandon has nothing to end: what does not answer ends with this process.
func abandon() {}
